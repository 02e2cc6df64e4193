// Written by build_shaders.py from shaders/embedding.comp; do not edit. Compile without fast math.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

template<typename T>
[[clang::optnone]] T spvFMul(T l, T r)
{
    return fma(l, r, T(0));
}

struct Step
{
    uint step_[1];
};

struct Push
{
    uint first;
    uint tile_vectors;
    uint first_tile;
    uint tiles;
    uint cols;
    uint y_stride;
    float scale;
};

struct Weights
{
    uint4 weights[1];
};

struct Y
{
    float y[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _135 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_135, 1u, 1u);

kernel void embedding_fp32(constant Push& p [[buffer(0)]], const device Weights& _95 [[buffer(1)]], device Y& _124 [[buffer(3)]], const device Step& _29 [[buffer(5)]], uint3 gl_GlobalInvocationID [[thread_position_in_grid]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    do
    {
        bool _35 = gl_WorkGroupID.y >= _29.step_[0];
        bool _49;
        if (!_35)
        {
            _49 = gl_GlobalInvocationID.x >= p.cols;
        }
        else
        {
            _49 = _35;
        }
        if (_49)
        {
            break;
        }
        uint _56 = 16u + gl_WorkGroupID.y;
        uint _62 = _29.step_[_56] % 8u;
        uint _68 = (_29.step_[_56] / 8u) - p.first_tile;
        if (_68 >= p.tiles)
        {
            break;
        }
        _124.y[(gl_WorkGroupID.y * p.y_stride) + gl_GlobalInvocationID.x] = spvFMul(spvFMul(p.scale, 1.0), as_type<float>(((device uint*)&_95.weights[((p.first + (_68 * p.tile_vectors)) + (2u * gl_GlobalInvocationID.x)) + (_62 / 4u)])[_62 % 4u]));
        break;
    } while(false);
}

