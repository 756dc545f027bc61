"""Who may ask: keys, host names, pages of other sites."""
