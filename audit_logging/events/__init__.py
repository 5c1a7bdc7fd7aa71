"""What an event is: its types, its values and its wire document."""
