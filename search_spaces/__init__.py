"""What may be tried at each scale: pure arithmetic, no torch, no ray."""
