"""Int8 and float16 variants, published only where they win."""
