"""From a connection to decoded photos: admitted, read, within their limits and their time."""
