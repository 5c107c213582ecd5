"""What a dead letter holds: the whole record, and why it is there."""
