"""What brings an App to AWS Lambda: its event source mapping, role and alarms; its zip file."""
