"""One page a file, and the panels they share. The only modules besides app.py that import streamlit."""
