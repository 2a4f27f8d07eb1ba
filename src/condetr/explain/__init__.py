"""Why a detector saw what it saw, and how fast it learned to: attention as data and pictures, runs compared."""
