"""Emulated clouds that the vendors' own clients believe; nothing of cloudreg is imported here."""
