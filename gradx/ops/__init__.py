"""What can be computed: every operation, with its gradient rules. How it is computed is the backends' matter."""
