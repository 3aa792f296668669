"""The shared package: models, data, training, evaluation and the model file. torch lives from here down."""
