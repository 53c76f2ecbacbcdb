"""The data and the models: 1,797 images of handwritten digits, which come with scikit-learn, and two classifiers of different kinds."""

from functools import cache

from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC


@cache
def data():
    """Images of 64 pixels from 0 to 16, and their digits, in two parts: to train, and held out. The parts are the same in every process."""
    x, y = load_digits(return_X_y=True)
    return train_test_split(x, y, test_size=0.3, random_state=0, stratify=y)


def held_out():
    """The images and digits that no model has seen."""
    _, images, _, digits = data()
    return images, digits


def train(name: str):
    """A model, trained in less than a second. A file of it would be read only by the version of scikit-learn that wrote it."""
    classifier = {
        "logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)),
        "svm": lambda: SVC(gamma=0.001),
    }[name]()
    images, _, digits, _ = data()
    return classifier.fit(images, digits)
