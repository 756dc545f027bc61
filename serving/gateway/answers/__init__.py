"""The answers to clients, made of a model's outputs: tags, places in the photo, embeddings. Pure functions."""
