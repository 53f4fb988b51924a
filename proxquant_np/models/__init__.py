"""Layer 3, build: the networks of the paper."""

from proxquant_np.models.cnn import SmallCNN as SmallCNN
from proxquant_np.models.language_model import LSTMLanguageModel as LSTMLanguageModel
from proxquant_np.models.mlp import MLP as MLP
from proxquant_np.models.resnet import ResNet as ResNet
