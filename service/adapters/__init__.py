"""Reward functions for trainers that carry pictures to a running server; one file a trainer.

They need httpx and pillow, no torch, and find the server by REWARD_URL and REWARD_API_KEY. Every
failure raises: a reward that nobody gave is never 0.0.
"""
