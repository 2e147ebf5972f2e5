"""`python -m deploy.reference`: writes the reference and the man page."""

from deploy.reference import write_all

write_all()
