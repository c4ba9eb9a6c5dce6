"""Files of fastconv and of others."""
