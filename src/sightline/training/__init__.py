"""Train a classifier so that it can be explained: data, frozen or not, by Lightning or Keras, into a bundle."""
