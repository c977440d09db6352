"""Where SageMaker's control plane answers: the one address of its JSON protocol."""

from cloudreg_emulator.aws.sagemaker.responses import SageMakerResponse

url_bases = [r"https?://api\.sagemaker\.(.+)\.amazonaws.com"]
url_paths = {"{0}/$": SageMakerResponse.dispatch}
