//! From disk to vault: read, encode, put, within bounded memory.
