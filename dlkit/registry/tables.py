"""Our own names, a row each. After a change here run `scripts/generate_registry`.

A row is `name: (target, other spellings, summary)`; the target is an import path, imported when it is used. Lists show the
names of a kind in the order of its rows.
"""

Rows = dict[str, tuple[str, tuple[str, ...], str]]

MODELS: Rows = {
    "mlp": ("dlkit.core.models.nets:mlp", (), "Fully connected layers over flattened input."),
    "small_cnn": (
        "dlkit.core.models.nets:small_cnn",
        (),
        "Three convolution stages with batch norm; for small images.",
    ),
    "resnet_small": ("dlkit.core.models.resnet_small:resnet_small", (), "CIFAR-style residual network, depth 6n + 2."),
    "cifarnet": ("dlkit.core.models.cifarnet:cifarnet", (), "Network for small images that learns in few epochs."),
    "lstm": ("dlkit.core.models.sequence:lstm", (), "LSTM over image rows or over sequences, with a linear head."),
    "unet": ("dlkit.core.models.unet:unet", (), "U-Net, a class for each pixel: for segmentation."),
    "layers": ("dlkit.core.models.layers:build_layers", (), "A network written as a list of layers in the config."),
}
DATASETS: Rows = {
    "digits": (
        "dlkit.core.data.sources.digits:digits",
        (),
        "1,797 handwritten digits of 8x8 pixels, shipped inside dlkit.",
    ),
    "fashion_mnist": (
        "dlkit.core.data.sources.torchvision:fashion_mnist",
        ("FashionMNIST",),
        "70,000 pictures of clothes; read in place from Debian's package too.",
    ),
    "emnist": (
        "dlkit.core.data.sources.torchvision:emnist",
        ("EMNIST",),
        "Handwritten letters and digits of 28x28 pixels, in six variants.",
    ),
    "imagefolder": (
        "dlkit.core.data.sources.imagefolder:imagefolder",
        ("ImageFolder",),
        "A folder with one folder of images per class, or train/ val/ test/ of those.",
    ),
    "maskfolder": (
        "dlkit.core.data.sources.maskfolder:maskfolder",
        ("MaskFolder",),
        "Pictures and masks of the same names in two folders, or train/ val/ test/ of those: for segmentation.",
    ),
    "voc_segmentation": (
        "dlkit.core.data.sources.mask_sets:voc_segmentation",
        ("VOCSegmentation",),
        "Pascal VOC: pictures with masks of 21 classes.",
    ),
    "cityscapes": (
        "dlkit.core.data.sources.mask_sets:cityscapes",
        ("Cityscapes",),
        "Street scenes with masks of the 19 classes that are judged.",
    ),
    "images": (
        "dlkit.core.data.sources.image_table:images",
        (),
        "Pictures whose files and targets a table names: CSV, TSV, JSON Lines or Parquet.",
    ),
    "table": (
        "dlkit.core.data.sources.table:table",
        ("csv",),
        "Rows of a table, numbers and texts: CSV, TSV, JSON Lines or Parquet.",
    ),
    "npz": (
        "dlkit.core.data.sources.arrays:npz",
        ("npy",),
        "Arrays x and y, or x_train, y_train, x_test ..., of an npz file or a folder of npy files.",
    ),
    "hf": (
        "dlkit.core.data.sources.huggingface:hf",
        ("huggingface",),
        "A Hugging Face data set, from a folder or by name; `hf:NAME` for short.",
    ),
    "fake": (
        "dlkit.core.data.sources.fake:fake",
        ("FakeData",),
        "Random images with a learnable class pattern, for tests and dry runs.",
    ),
}
LOSSES: Rows = {
    "cross_entropy": (
        "torch.nn:CrossEntropyLoss",
        ("CrossEntropyLoss",),
        "Cross-entropy of logits against class indices.",
    ),
    "bce": (
        "torch.nn:BCEWithLogitsLoss",
        ("BCEWithLogitsLoss",),
        "Binary cross-entropy of logits, for each label: the loss of multilabel.",
    ),
    "focal": (
        "dlkit.core.scoring.focal:FocalLoss",
        ("FocalLoss",),
        "Cross-entropy that looks away from easy samples, for classes and for labels.",
    ),
    "asymmetric": (
        "dlkit.core.scoring.focal:AsymmetricLoss",
        ("asl", "AsymmetricLoss"),
        "For labels: easy negatives count less than easy positives.",
    ),
    "dice": (
        "dlkit.core.scoring.map_losses:DiceLoss",
        ("DiceLoss",),
        "One minus the Dice of each class of a picture: for segmentation.",
    ),
    "sum": ("dlkit.core.scoring.map_losses:LossSum", (), "A weighted sum of losses: for segmentation."),
    "mse": ("torch.nn:MSELoss", ("MSELoss",), "Mean squared error."),
}
OPTIMIZERS: Rows = {
    "sgd": ("torch.optim:SGD", (), "Stochastic gradient descent with momentum and Nesterov."),
    "adam": ("torch.optim:Adam", (), "Adam, L2 penalty in the gradient."),
    "adamw": ("torch.optim:AdamW", (), "Adam with decoupled weight decay."),
    "rmsprop": ("torch.optim:RMSprop", (), "RMSprop, optionally centred."),
}
SCHEDULES: Rows = {
    "constant": ("dlkit.schedules.curves:Constant", (), "The same learning rate throughout."),
    "step": ("dlkit.schedules.curves:Step", ("StepLR",), "Multiply by gamma every step_size."),
    "multistep": ("dlkit.schedules.curves:MultiStep", ("MultiStepLR",), "Multiply by gamma at each milestone."),
    "exponential": ("dlkit.schedules.curves:Exponential", ("ExponentialLR",), "Multiply by gamma each time."),
    "cosine": ("dlkit.schedules.curves:Cosine", ("CosineAnnealingLR",), "Half a cosine from the peak to eta_min."),
    "cosine_restarts": (
        "dlkit.schedules.cycles:CosineRestarts",
        ("CosineAnnealingWarmRestarts",),
        "Cosine that starts again, each cycle T_mult times longer.",
    ),
    "onecycle": (
        "dlkit.schedules.cycles:OneCycle",
        ("OneCycleLR",),
        "Up to the peak and far down, momentum the other way round.",
    ),
    "linear": ("dlkit.schedules.curves:Linear", ("LinearLR",), "A straight line between two factors."),
    "polynomial": ("dlkit.schedules.curves:Polynomial", ("PolynomialLR", "poly"), "(1 - t/T) to a power."),
    "constant_factor": (
        "dlkit.schedules.curves:ConstantFactor",
        ("ConstantLR",),
        "A fixed factor at first, then the full rate.",
    ),
    "cyclic": (
        "dlkit.schedules.cycles:Cyclic",
        ("CyclicLR",),
        "Triangles between a foot and the peak, momentum the other way round.",
    ),
    "wsd": (
        "dlkit.schedules.curves:WarmupStableDecay",
        ("warmup_stable_decay",),
        "Hold, then fall over the last share of the run.",
    ),
    "inverse_sqrt": ("dlkit.schedules.curves:InverseSqrt", (), "Fall with the inverse square root of the step."),
    "sequence": (
        "dlkit.schedules.composition:Sequence",
        (),
        "Pieces one after another: linear 500 from 0.01; cosine rest.",
    ),
    "plateau": (
        "dlkit.schedules.plateau:Plateau",
        ("ReduceLROnPlateau",),
        "Multiply by factor when a metric stops improving.",
    ),
}
TRANSFORMS: Rows = {
    "alternating_flip": (
        "dlkit.core.data.augment.flips:AlternatingFlip",
        (),
        "Mirror each image in every second epoch.",
    ),
}
BATCH_TRANSFORMS: Rows = {
    "mixup": ("dlkit.core.data.mixing:MixUp", (), "Blend pairs of samples and their labels."),
    "cutmix": (
        "dlkit.core.data.mixing:CutMix",
        (),
        "Paste a box of one sample into another and mix their labels by area.",
    ),
}
ACTIVATIONS: Rows = {
    "relu": ("torch.nn:ReLU", (), "max(0, x)."),
    "tanh": ("torch.nn:Tanh", (), "Hyperbolic tangent."),
    "sigmoid": ("torch.nn:Sigmoid", (), "1 / (1 + exp(-x))."),
    "gelu": ("torch.nn:GELU", (), "x times the normal distribution function."),
    "swish": ("dlkit.core.models.activations:Swish", ("silu",), "x times sigmoid(beta x); beta fixed or learnable."),
    "prelu": ("torch.nn:PReLU", (), "ReLU with a learnable negative slope."),
    "leaky_relu": ("torch.nn:LeakyReLU", (), "ReLU with a small fixed negative slope."),
    "hardswish": ("torch.nn:Hardswish", (), "Piecewise approximation of swish."),
    "hardsigmoid": ("torch.nn:Hardsigmoid", (), "Piecewise approximation of sigmoid."),
    "relu6": ("torch.nn:ReLU6", (), "ReLU cut off at 6."),
    "elu": ("torch.nn:ELU", (), "Exponential linear unit."),
    "selu": ("torch.nn:SELU", (), "Self-normalizing ELU."),
    "mish": ("torch.nn:Mish", (), "x times tanh(softplus(x))."),
    "softplus": ("torch.nn:Softplus", (), "log(1 + exp(x)), a smooth ReLU."),
    "identity": ("torch.nn:Identity", (), "Nothing."),
}
ROWS: dict[str, Rows] = {
    "models": MODELS,
    "datasets": DATASETS,
    "losses": LOSSES,
    "optimizers": OPTIMIZERS,
    "schedules": SCHEDULES,
    "transforms": TRANSFORMS,
    "batch_transforms": BATCH_TRANSFORMS,
    "activations": ACTIVATIONS,
}

# Arguments that dlkit passes itself, by kind; they are not options of a config.
INJECTED: dict[str, frozenset[str]] = {
    "models": frozenset({"num_classes", "in_channels", "input_size", "weights", "progress", "layers"}),
    "datasets": frozenset(
        {
            "root",
            "download",
            "train",
            "split",
            "transform",
            "target_transform",
            "transforms",
            "seed",
            "image_set",
            "request",
        }
    ),
    "losses": frozenset({"reduction", "size_average", "reduce", "weight", "pos_weight", "task"}),
    "optimizers": frozenset({"params", "lr"}),
    "schedules": frozenset({"optimizer", "last_epoch", "verbose", "total"}),
    "transforms": frozenset(),
    "batch_transforms": frozenset({"num_classes"}),
    "activations": frozenset({"inplace"}),
}


def injected_into(kind: str, module: str) -> frozenset[str]:
    """Returns the arguments that dlkit passes itself to what lies in a module; its own data sets get all in one `request`."""
    return frozenset({"request"}) if kind == "datasets" and module.startswith("dlkit.") else INJECTED[kind]
