"""Values that only some members can read: relays verify and carry what they cannot open.

prefixes     which prefixes are encrypted, for whom, by what key: ordinary cells below `$keys/`
sealing      one value; one key for one reader
vault        the two together, for the peer core
"""

from mesh.secrecy.sealing import Sealed
from mesh.secrecy.vault import Vault

__all__ = ["Sealed", "Vault"]
