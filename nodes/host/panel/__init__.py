"""What goes to the page."""
