"""The course on the page Learn: a module for each lesson, the quiz, and the parts that they share."""
