//! Where a vault's objects are kept, and the vault itself.
