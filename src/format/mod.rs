//! What the bytes in a vault mean. No files here, no store: bytes in, values out, within limits.
