//! From vault to disk: which targets are refused, and each chunk checked before it is written.
