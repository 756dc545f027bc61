"""What a model gave, in a client's terms: tags, places in the photo, embeddings. Plain data in, plain data out."""
