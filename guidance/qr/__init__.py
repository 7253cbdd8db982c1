"""QR symbols: encoding, targets that follow a picture, the loss that makes a picture scan. No method."""
