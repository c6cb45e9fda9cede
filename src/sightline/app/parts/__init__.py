"""The parts that pages are made of: what is chosen, what is asked, and how it is shown."""
