"""Max pooling of channels-last images by fastconv's kernel, in two ways."""

from channel_pool._pool import max_pool as max_pool
from channel_pool._pool import max_pool_serial as max_pool_serial
