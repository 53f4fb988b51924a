"""Exchange with other frameworks (layer 3). Nothing here is imported before it is asked for."""
