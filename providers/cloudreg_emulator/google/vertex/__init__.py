"""Vertex AI on the proto types of Google's own SDK, over REST and gRPC from the same handlers."""
