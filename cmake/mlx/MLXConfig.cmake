# The imported target `mlx` over an unpacked MLX wheel (MLXK_MLX_DIR), in place of the wheel's own package:
# that one names frameworks by the path of the Xcode that built it, and for CUDA asks for a whole toolkit
# where only headers and libmlx are needed.

set(MLX_INCLUDE_DIRS "${MLXK_MLX_DIR}/include")
set(MLX_LIBRARY_DIRS "${MLXK_MLX_DIR}/lib")
set(MLX_LIBRARIES mlx)
set(MLX_FOUND TRUE)

if(TARGET mlx)
  return()
endif()

find_library(MLXK_LIBMLX mlx PATHS "${MLX_LIBRARY_DIRS}" NO_DEFAULT_PATH REQUIRED)
add_library(mlx SHARED IMPORTED GLOBAL)
set_target_properties(
  mlx
  PROPERTIES IMPORTED_LOCATION "${MLXK_LIBMLX}"
             INTERFACE_COMPILE_FEATURES cxx_std_20
             INTERFACE_INCLUDE_DIRECTORIES "${MLX_INCLUDE_DIRS}")

if(APPLE)
  set_property(TARGET mlx PROPERTY IMPORTED_SONAME "@rpath/libmlx.dylib")
  set_property(TARGET mlx APPEND PROPERTY INTERFACE_INCLUDE_DIRECTORIES "${MLX_INCLUDE_DIRS}/metal_cpp")
  set_property(TARGET mlx PROPERTY INTERFACE_COMPILE_DEFINITIONS _METAL_ ACCELERATE_NEW_LAPACK)
  set_property(
    TARGET mlx
    PROPERTY INTERFACE_LINK_LIBRARIES "-framework Metal" "-framework Foundation" "-framework QuartzCore"
             "-framework Accelerate")
else()
  # libmlx finds its own libraries through its RPATH; the linker has to be told.
  file(GLOB wheel_libs LIST_DIRECTORIES true "${MLXK_MLX_DIR}/../*.libs")
  foreach(folder IN LISTS wheel_libs)
    set_property(TARGET mlx APPEND PROPERTY INTERFACE_LINK_OPTIONS "LINKER:-rpath-link,${folder}")
  endforeach()
  if(MLXK_BACKEND MATCHES "^cuda")
    # libcuda belongs to the driver and the CUDA libraries may come at run time.
    set_property(TARGET mlx APPEND PROPERTY INTERFACE_LINK_OPTIONS "LINKER:--allow-shlib-undefined")
  endif()
endif()
