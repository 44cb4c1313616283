"""Whether the rewrite and the patches still fit: tags by recipes to rows."""
