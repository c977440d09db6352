"""The model server: one program behind SageMaker, Vertex AI and the local provider.

=============  ============================================================================
`options`      what can be asked of it, and on which platform it finds itself
`server`       the socket, the signals, the life from the first byte to the last
`loading`      files checked against the manifest, weights loaded, warmed up
`runtimes`     torch and ONNX behind one small protocol
`batching`     requests to batches, on one thread that alone touches the device
`streaming`    answers that come piece by piece
`checks`       tensors against the signature, with errors that name the field
`instances`    ``{"instances"}`` to ``{"predictions"}``
`v2`           the Open Inference Protocol, JSON and binary
`http`         requests, answers and refusals
`app`          routes
`metrics`      what Prometheus reads
=============  ============================================================================

It knows `cloudreg.errors`, `cloudreg.manifest`, `cloudreg.names` and nothing else of cloudreg.
"""
