"""One model registry and one stage model, on every managed cloud."""
