"""What is minimised: advantages and the loss."""
