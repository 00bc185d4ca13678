/* For the compiled build (setup.py): included before what mypyc writes. What a C compiler cannot know of the functions that it
 * calls where something fails is that it hardly ever does: with this, the way there is put apart from the code that runs. An
 * agent wakes up to cold caches, and pays for each line of code that it has to fetch. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define COLD __attribute__((cold))

COLD void CPy_AddTraceback(const char *, const char *, int, PyObject *);
COLD void CPy_TypeErrorTraceback(const char *, const char *, int, PyObject *, const char *, PyObject *);
COLD void CPy_TypeError(const char *, PyObject *);
COLD void CPy_AttributeError(const char *, const char *, const char *, const char *, int, PyObject *);
COLD static void CPy_DecRef(PyObject *); /* where an error is on its way; else it is CPy_DECREF, in line */
