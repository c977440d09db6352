"""Google Cloud on this machine: Cloud Storage and Vertex AI, as their own clients know them."""
