"""Who may log in at a listener: the users file, and what it holds of each password."""
