"""."""
LABS = QUICK_LABS = []
