"""From ordinary Python to a graph, and from a graph to results."""
