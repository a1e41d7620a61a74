mod dataset_model;
