"""Small programs that use one library for real: `python -m understudy.cli.probes NAME`.

`understudy doctor` runs each in a process of its own, because a broken binary wheel kills the process that
loads it. A probe prints one line that says what works and leaves with 0; anything else means broken.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

__all__ = ["PROBES"]

_ROS_ATTEMPT_S = 15.0


def probe_pybullet() -> str:
    """Render one small image with the software renderer of a DIRECT world."""
    import pybullet

    client = pybullet.connect(pybullet.DIRECT)
    pybullet.stepSimulation(physicsClientId=client)
    width, height = 32, 24
    picture = pybullet.getCameraImage(width, height, renderer=pybullet.ER_TINY_RENDERER, physicsClientId=client)
    pybullet.disconnect(client)
    if (picture[0], picture[1]) != (width, height):
        raise RuntimeError(f"asked for {width}x{height} pixels, got {picture[0]}x{picture[1]}")
    return "simulates and renders (TinyRenderer)"


def probe_torch() -> str:
    """Multiply on the CPU, and on the GPU where there is one."""
    import torch

    devices = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
    for device in devices:
        ones = torch.ones(8, 8, device=device)
        if float((ones @ ones).sum()) != 512.0:
            raise RuntimeError(f"a matrix product on {device} came out wrong")
    accelerator = torch.cuda.get_device_name(0) if len(devices) == 2 else "no CUDA device, CPU only"
    return f"computes with {torch.get_num_threads()} threads; {accelerator}"


def probe_onnxruntime() -> str:
    """List the execution providers."""
    import onnxruntime

    providers = onnxruntime.get_available_providers()
    if "CPUExecutionProvider" not in providers:
        raise RuntimeError(f"there is no CPU provider, only {providers}")
    return ", ".join(providers)


def probe_pinocchio() -> str:
    """Put a one-joint model through forward kinematics."""
    import numpy as np
    import pinocchio

    model = pinocchio.buildSampleModelManipulator()
    data = model.createData()
    pinocchio.forwardKinematics(model, data, pinocchio.neutral(model))
    if not np.isfinite(data.oMi[model.njoints - 1].translation).all():
        raise RuntimeError("forward kinematics gave values that are not finite")
    return "forward kinematics works"


def probe_ros() -> str:
    """Publish on a topic and receive it back."""
    import rclpy
    from std_msgs.msg import String

    received: list[str] = []

    def receive(message: String) -> None:
        received.append(message.data)

    rclpy.init()
    try:
        node = rclpy.create_node("understudy_doctor")
        node.create_subscription(String, "understudy_doctor", receive, 10)
        publisher = node.create_publisher(String, "understudy_doctor", 10)
        started = time.monotonic()
        while not received and time.monotonic() - started < _ROS_ATTEMPT_S:
            publisher.publish(String(data="hello"))
            rclpy.spin_once(node, timeout_sec=0.05)
        elapsed_ms = (time.monotonic() - started) * 1e3
        implementation = rclpy.utilities.get_rmw_implementation_identifier()
    finally:
        rclpy.utilities.try_shutdown()
    if received[:1] != ["hello"]:
        raise RuntimeError(f"nothing that was published arrived within {_ROS_ATTEMPT_S:.0f} s")
    return f"published and received in {elapsed_ms:.1f} ms ({implementation})"


def probe_pygame() -> str:
    """Have SDL list the game pads."""
    import os

    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    os.environ["SDL_VIDEODRIVER"] = "dummy"
    import pygame
    from pygame._sdl2 import controller

    pygame.display.init()
    controller.init()
    pads = [controller.name_forindex(i) for i in range(controller.get_count()) if controller.is_controller(i)]
    version = ".".join(map(str, pygame.get_sdl_version()))
    return f"SDL {version}; {', '.join(map(str, pads)) or 'none is plugged in'}"


def probe_hidraw() -> str:
    """Have the kernel's list of HID devices read."""
    import hidraw

    from understudy.capture.devices.spacemouse import PUCKS

    keys = [(entry["vendor_id"], entry["product_id"]) for entry in hidraw.enumerate()]
    pucks = dict.fromkeys(PUCKS[key] for key in keys if key in PUCKS)
    return f"hidapi {hidraw.version_str()}; {', '.join(pucks) or 'none is plugged in'}"


PROBES: dict[str, Callable[[], str]] = {
    "pinocchio": probe_pinocchio,
    "onnxruntime": probe_onnxruntime,
    "pybullet": probe_pybullet,
    "torch": probe_torch,
    "rclpy": probe_ros,
    "pygame": probe_pygame,
    "hidraw": probe_hidraw,
}
"""Each probe by the module that it tries."""


if __name__ == "__main__":
    print(PROBES[sys.argv[1]]())
