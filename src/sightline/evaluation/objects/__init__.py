"""Where the objects are in pictures: boxes and masks read from the files that people have."""
