"""How any pipeline of diffusers is asked for images: what its call takes, what it gives, and its final latents."""
