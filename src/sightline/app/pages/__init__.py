"""One module for each page: ``page()`` draws it."""
