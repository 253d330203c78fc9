"""What pretrained backbones expect of colours: mean and deviation of ImageNet, RGB, 0..1."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
