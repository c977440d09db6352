"""Emulated Application Auto Scaling for SageMaker: strict targets and policies that really scale.

What scales other services is moto's.

=============  ================================================================
`rules`        what may be registered, and what a policy must look like
`policies`     policies with the CloudWatch alarms that they bring
`alarms`       what an alarm's state is, by the metrics
`deciding`     what a policy makes of a metric: pure arithmetic
`models`       the backend; its `tick` evaluates, decides and scales
`ticking`      a thread that ticks, for servers
=============  ================================================================
"""
