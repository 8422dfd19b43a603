"""What happens inside the language model while it answers: stages between its layers, rows beside its kernel."""
