"""tools.importance as a user runs it."""

import json

import numpy as np
import pytest
from commands import tool

from maxlite.surgery import scores as scores_lib
