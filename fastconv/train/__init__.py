"""The training loop and what it needs: model files, progress, metrics, learning curves."""
