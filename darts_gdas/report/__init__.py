"""What people look at: drawings, TensorBoard, summaries."""
